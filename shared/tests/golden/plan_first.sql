WITH `recent` AS (
SELECT `source_schema`, `source_table`, `operation`, `position`, `committed_at`, `emitted_at`, `ingested_at`, `kafka_topic`, `kafka_partition`, `kafka_offset`, TRUE AS `is_new`, `kafka_offset` - DENSE_RANK() OVER (PARTITION BY `kafka_topic`, `kafka_partition` ORDER BY `kafka_offset`) AS `island`
FROM `project`.`cdc`.`log`
WHERE TRUE
)
SELECT `source_schema`, `source_table`, `kafka_topic`, `kafka_partition`, MIN(`kafka_offset`) AS `first`, MAX(`kafka_offset`) AS `last`, COUNTIF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete')) AS `changes`, COUNTIF(`is_new` AND `operation` = 'create-table') AS `definitions`, UNIX_MICROS(MIN(IF(`is_new`, `ingested_at`, NULL))) AS `from_us`, MIN(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete'), `position`, NULL)) AS `lowest_position`, UNIX_MICROS(MIN(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete'), LEAST(COALESCE(`committed_at`, `emitted_at`), COALESCE(`emitted_at`, `committed_at`)), NULL))) AS `oldest_us`, COUNTIF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete') AND `committed_at` IS NULL AND `emitted_at` IS NULL) AS `timeless`, UNIX_MICROS(MAX(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete'), `committed_at`, NULL))) AS `newest_commit_us`, UNIX_MICROS(MAX(`ingested_at`)) AS `newest_us`
FROM `recent`
GROUP BY GROUPING SETS ((`source_schema`, `source_table`), (`kafka_topic`, `kafka_partition`, `island`))
