WITH `records` AS (
SELECT `source_schema`, `source_table`, `operation`, `position`, `committed_at`, `emitted_at`, `ingested_at`, `kafka_topic`, `kafka_partition`, `kafka_offset`
FROM `project`.`cdc`.`log`
WHERE `ingested_at` >= TIMESTAMP '2026-01-02 02:44:05.678901+00'
UNION ALL
SELECT '', '', '', '', NULL, NULL, `ingested_at`, `kafka_topic`, `kafka_partition`, `kafka_offset`
FROM `project`.`cdc`.`log_kept_out`, UNNEST(GENERATE_ARRAY(`first_offset`, `last_offset`)) AS `kafka_offset`
WHERE `ingested_at` >= TIMESTAMP '2026-01-02 02:44:05.678901+00'
),
`recent` AS (
SELECT *, NOT (`ingested_at` <= TIMESTAMP '2026-01-02 03:04:05.678901+00' AND ((`kafka_topic` = 'cdc' AND `kafka_partition` = 0 AND MOD(RANGE_BUCKET(`kafka_offset`, [0, 42, 43, 44]), 2) = 1) OR (`kafka_topic` = 'it\'s' AND `kafka_partition` = 7 AND `kafka_offset` BETWEEN 5 AND 5))) AS `is_new`, `kafka_offset` - DENSE_RANK() OVER (PARTITION BY `kafka_topic`, `kafka_partition` ORDER BY `kafka_offset`) AS `island`
FROM `records`
)
SELECT `source_schema`, `source_table`, `kafka_topic`, `kafka_partition`, MIN(`kafka_offset`) AS `first`, MAX(`kafka_offset`) AS `last`, COUNTIF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete')) AS `changes`, COUNTIF(`is_new` AND `operation` IN ('create-table', 'add-column', 'define-table')) AS `definitions`, COUNTIF(`is_new` AND `operation` IN ('drop-column', 'rename-column', 'column-type-change', 'change-columns', 'rename-table')) AS `alterations`, STRING_AGG(IF(`is_new` AND `operation` IN ('create-table', 'drop-table'), CAST(UNIX_MICROS(COALESCE(`emitted_at`, `ingested_at`)) AS STRING), NULL), ',') AS `starts`, UNIX_MICROS(MAX(IF(`is_new` AND `operation` = 'load', COALESCE(`emitted_at`, `ingested_at`), NULL))) AS `newest_load_us`, UNIX_MICROS(MIN(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete'), COALESCE(`emitted_at`, `ingested_at`), NULL))) AS `oldest_emitted_us`, UNIX_MICROS(MIN(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete') AND `operation` <> 'load', COALESCE(`emitted_at`, `ingested_at`), NULL))) AS `oldest_change_us`, UNIX_MICROS(MIN(IF(`is_new`, `ingested_at`, NULL))) AS `from_us`, MIN(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete'), `position`, NULL)) AS `lowest_position`, UNIX_MICROS(MIN(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete'), LEAST(COALESCE(`committed_at`, `emitted_at`), COALESCE(`emitted_at`, `committed_at`)), NULL))) AS `oldest_us`, COUNTIF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete') AND `committed_at` IS NULL AND `emitted_at` IS NULL) AS `timeless`, UNIX_MICROS(MAX(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete'), `committed_at`, NULL))) AS `newest_commit_us`, UNIX_MICROS(MAX(IF(`is_new` AND `operation` IN ('load', 'insert', 'update', 'delete') AND `operation` <> 'load', COALESCE(`emitted_at`, `ingested_at`), NULL))) AS `newest_change_us`, STRING_AGG(IF(`is_new` AND `operation` IN ('truncate', 'truncate-table'), CONCAT(CAST(UNIX_MICROS(COALESCE(`emitted_at`, `ingested_at`)) AS STRING), ' ', `position`), NULL), ',') AS `truncated`, UNIX_MICROS(MAX(`ingested_at`)) AS `newest_us`
FROM `recent`
GROUP BY GROUPING SETS ((`source_schema`, `source_table`), (`kafka_topic`, `kafka_partition`, `island`))
UNION ALL
SELECT CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS STRING), NULL, NULL, NULL, 0, 0, 0, CAST(NULL AS STRING), NULL, NULL, NULL, NULL, CAST(NULL AS STRING), NULL, 0, NULL, NULL, CAST(NULL AS STRING), UNIX_MICROS(MAX(`recorded_at`))
FROM `project`.`cdc`.`merges`
WHERE TRUE
HAVING COUNT(*) <> 0
