CREATE OR REPLACE VIEW `project`.`cdc`.`log_gaps`
OPTIONS (description = 'Kafka offsets between the lowest and the highest one of each partition in the log that are neither in the log nor noted as kept out of it. kind: `transaction markers` if the partition has at least 10 holes and each is a single offset; `compaction` if it has at least 10 holes, not all single, and they are at least one in 10 of its offsets; `topic made anew` if the hole lies between the offsets of a topic, counted from 0, and those that one of the same name had over 20 minutes before; else `missing`: a record that was never taken in. A batch that is on its way or being delivered again looks missing until it has come: see before_ingested_at. A hole is shown for 696 hours after the record before it was taken in.')
AS
WITH `delivered` AS (
SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`
FROM `project`.`cdc`.`log`
UNION ALL
SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`
FROM `project`.`cdc`.`log_kept_out`, UNNEST(GENERATE_ARRAY(`first_offset`, `last_offset`)) AS `kafka_offset`
),
`edges` AS (
SELECT `kafka_topic`, `kafka_partition`, `kafka_offset` + `step` AS `place`, MIN(IF(`step` = 1, `ingested_at`, NULL)) AS `after_ingested_at`, MIN(IF(`step` = -1, `ingested_at`, NULL)) AS `before_ingested_at`
FROM `delivered`, UNNEST([-1, 0, 1]) AS `step`
GROUP BY `kafka_topic`, `kafka_partition`, `place`
HAVING COUNTIF(`step` = 0) = 0
),
`paired` AS (
SELECT `kafka_topic`, `kafka_partition`, `place` AS `first_missing`, IF(`before_ingested_at` IS NULL, LEAD(`place`) OVER (PARTITION BY `kafka_topic`, `kafka_partition` ORDER BY `place`), `place`) AS `last_missing`, `after_ingested_at`, IF(`before_ingested_at` IS NULL, LEAD(`before_ingested_at`) OVER (PARTITION BY `kafka_topic`, `kafka_partition` ORDER BY `place`), `before_ingested_at`) AS `before_ingested_at`, FIRST_VALUE(`before_ingested_at`) OVER (PARTITION BY `kafka_topic`, `kafka_partition` ORDER BY `place`) AS `lowest_ingested_at`, MIN(`place`) OVER (PARTITION BY `kafka_topic`, `kafka_partition`) + 1 AS `lowest`, MAX(`place`) OVER (PARTITION BY `kafka_topic`, `kafka_partition`) - 1 AS `highest`
FROM `edges`
),
`holes` AS (
SELECT *, `last_missing` - `first_missing` + 1 AS `missing`, `lowest` = 0 AND `lowest_ingested_at` <= `after_ingested_at` AND `lowest_ingested_at` > TIMESTAMP_ADD(`before_ingested_at`, INTERVAL 20 MINUTE) AS `is_made_anew`
FROM `paired`
WHERE `before_ingested_at` IS NOT NULL AND `after_ingested_at` >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 696 HOUR)
),
`counted` AS (
SELECT *, COUNTIF(NOT `is_made_anew`) OVER (PARTITION BY `kafka_topic`, `kafka_partition`) AS `holes`, MAX(IF(`is_made_anew`, 0, `missing`)) OVER (PARTITION BY `kafka_topic`, `kafka_partition`) AS `longest`, SUM(IF(`is_made_anew`, 0, `missing`)) OVER (PARTITION BY `kafka_topic`, `kafka_partition`) AS `all_missing`
FROM `holes`
)
SELECT `kafka_topic`, `kafka_partition`, `first_missing`, `last_missing`, `missing`, `after_ingested_at`, `before_ingested_at`, CASE WHEN `is_made_anew` THEN 'topic made anew' WHEN `holes` >= 10 AND `longest` = 1 THEN 'transaction markers' WHEN `holes` >= 10 AND `all_missing` * 10 >= `highest` - `lowest` + 1 THEN 'compaction' ELSE 'missing' END AS `kind`
FROM `counted`
