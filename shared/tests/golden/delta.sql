CREATE OR REPLACE TABLE `project`.`cdc`.`_strait_delta_a9075f93e759074c7cb38985`
PARTITION BY RANGE_BUCKET(`table_number`, GENERATE_ARRAY(0, 3, 1))
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 24 HOUR))
AS
SELECT `_strait_wanted`.`table_number`, `_strait_log`.`source_schema`, `_strait_log`.`source_table`, `_strait_log`.`operation`, `_strait_log`.`position`, `_strait_log`.`data`, `_strait_log`.`before`, `_strait_log`.`committed_at`, `_strait_log`.`emitted_at`, `_strait_log`.`kafka_topic`, `_strait_log`.`kafka_partition`, `_strait_log`.`kafka_offset`, `_strait_log`.`ingested_at`, `_strait_log`.`error`
FROM `project`.`cdc`.`log` AS `_strait_log`
JOIN UNNEST(ARRAY<STRUCT<`table_number` INT64, `schema` STRING, `name` STRING>>[
(0, 'shop', '`a`'),
(1, 'shop', 'it\'s'),
(2, 'shop', 'order')
]) AS `_strait_wanted`
ON `_strait_wanted`.`schema` = `_strait_log`.`source_schema` AND `_strait_wanted`.`name` = `_strait_log`.`source_table`
WHERE `_strait_log`.`ingested_at` >= TIMESTAMP '2026-01-01 20:40:00.000000+00' AND `_strait_log`.`ingested_at` <= TIMESTAMP '2026-01-02 03:04:05.678901+00'
AND `_strait_log`.`operation` IN ('load', 'insert', 'update', 'delete')
