WITH `recent` AS (
SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, COALESCE(`emitted_at`, `ingested_at`) AS `sent`, `emitted_at` IS NOT NULL AS `is_dated`, `source_schema` = 'shop' AND `source_table` = 'order' AS `is_own`, `operation`
FROM `project`.`cdc`.`log`
WHERE `ingested_at` >= TIMESTAMP '2026-01-02 02:21:40.000000+00'
UNION ALL
SELECT `kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, COALESCE(`emitted_at`, `ingested_at`), `emitted_at` IS NOT NULL, FALSE, ''
FROM `project`.`cdc`.`log_kept_out`, UNNEST(GENERATE_ARRAY(`first_offset`, `last_offset`)) AS `kafka_offset`
WHERE `ingested_at` >= TIMESTAMP '2026-01-02 02:21:40.000000+00'
),
`loaded` AS (
SELECT MAX(`sent`) AS `newest_load` FROM `recent` WHERE `is_own` AND `operation` = 'load' AND `sent` >= TIMESTAMP '2026-01-02 02:46:40.000000+00'
),
`ended` AS (
SELECT MIN(`sent`) AS `ended_at` FROM `recent`, `loaded`
WHERE `is_own` AND `operation` IN ('insert', 'update', 'delete', 'truncate') AND `sent` > `newest_load`
),
`bounds` AS (
SELECT `kafka_topic`, `kafka_partition`, MAX(IF(`is_dated`, `sent`, NULL)) AS `newest_sent`, MAX(`ingested_at`) AS `newest_ingested`, MIN(IF(`sent` >= IF(`is_dated`, TIMESTAMP '2026-01-02 02:46:40.000000+00', TIMESTAMP '2026-01-02 02:41:40.000000+00'), `kafka_offset`, NULL)) AS `first`, COALESCE(MIN(IF(`is_dated` AND `sent` >= `ended_at`, `kafka_offset`, NULL)), MAX(`kafka_offset`)) AS `last`, MIN(`ended_at`) AS `ended_at`
FROM `recent`, `ended`
WHERE `kafka_topic` IN (SELECT `kafka_topic` FROM `recent` WHERE `is_own`)
GROUP BY `kafka_topic`, `kafka_partition`
)
SELECT `B`.`kafka_topic`, `B`.`kafka_partition`, UNIX_MICROS(MIN(`B`.`ended_at`)), UNIX_MICROS(MIN(`B`.`newest_sent`)), UNIX_MICROS(MIN(`B`.`newest_ingested`)), COALESCE(COUNT(DISTINCT IF(`R`.`kafka_offset` BETWEEN `B`.`first` AND `B`.`last`, `R`.`kafka_offset`, NULL)) = MIN(`B`.`last` - `B`.`first`) + 1, TRUE), IF(COUNTIF(`R`.`kafka_offset` = `B`.`first` - 1) > 0, NULL, MIN(`B`.`first`))
FROM `bounds` AS `B` JOIN `recent` AS `R` ON `R`.`kafka_topic` = `B`.`kafka_topic` AND `R`.`kafka_partition` = `B`.`kafka_partition`
GROUP BY `B`.`kafka_topic`, `B`.`kafka_partition`
