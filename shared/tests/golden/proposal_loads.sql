SELECT DISTINCT UNIX_MICROS(`sent`) AS `sent`
FROM (SELECT COALESCE(`emitted_at`, `ingested_at`) AS `sent` FROM `project`.`cdc`.`log` AS `_strait_log`
WHERE `source_schema` = 'shop' AND `source_table` = 'order' AND `operation` IN ('drop-table', 'create-table')
QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `_strait_log`.`kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1)
ORDER BY `sent` DESC LIMIT 50
