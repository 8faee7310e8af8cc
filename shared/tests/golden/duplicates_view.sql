CREATE OR REPLACE VIEW `project`.`cdc`.`log_duplicates`
OPTIONS (description = 'Records that are in the log more than once. kind: `delivered again` if one Kafka record (topic, partition, offset) is there `copies` times, from redelivery or an append whose answer was lost; `sent again` if one change of the source (position) is there at `copies` offsets, each of which has its row here, from DMS sending it again. Neither changes a final table.')
AS
WITH `records` AS (
SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `source_schema`, `source_table`, `operation`, `position`, COUNT(*) AS `copies`, MIN(`ingested_at`) AS `first_ingested_at`, MAX(`ingested_at`) AS `last_ingested_at`
FROM `project`.`cdc`.`log`
GROUP BY `kafka_topic`, `kafka_partition`, `kafka_offset`, `source_schema`, `source_table`, `operation`, `position`
),
`changes` AS (
SELECT *, COUNT(*) OVER (PARTITION BY `source_schema`, `source_table`, `operation`, `position`) AS `offsets`
FROM `records`
WHERE `position` LIKE '____-2-%'
)
SELECT 'delivered again' AS `kind`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `copies`, `source_schema`, `source_table`, `operation`, `position`, `first_ingested_at`, `last_ingested_at`
FROM `records`
WHERE `copies` > 1
UNION ALL
SELECT 'sent again' AS `kind`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `offsets` AS `copies`, `source_schema`, `source_table`, `operation`, `position`, `first_ingested_at`, `last_ingested_at`
FROM `changes`
WHERE `offsets` > 1
