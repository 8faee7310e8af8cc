SELECT `source_schema`, `source_table`, `operation`, `data`, UNIX_MICROS(COALESCE(`emitted_at`, `ingested_at`)) AS `sent`, `kafka_topic`, `kafka_partition`, `kafka_offset`
FROM `project`.`cdc`.`log`
WHERE (`ingested_at` >= TIMESTAMP '2026-01-02 03:00:00.000000+00' AND `ingested_at` < TIMESTAMP '2026-01-02 05:00:00.000000+00' OR `ingested_at` >= TIMESTAMP '2026-01-02 08:00:00.000000+00' AND `ingested_at` < TIMESTAMP '2026-01-02 09:00:00.000000+00')
AND `operation` IN ('create-table', 'add-column', 'define-table', 'drop-column', 'rename-column', 'column-type-change', 'change-columns', 'rename-table') AND `ingested_at` >= TIMESTAMP '2026-01-02 03:04:05.678901+00' AND (`source_schema` = 'shop' AND `source_table` = 'order' AND `ingested_at` >= TIMESTAMP '2026-01-02 03:04:05.678902+00' OR `source_schema` = 'crm' AND `source_table` = 'o\'brien' AND `ingested_at` >= TIMESTAMP '2026-01-02 03:04:05.678901+00')
AND (STRPOS(`data`, '"table-def"') > 0 OR `operation` = 'rename-table')
ORDER BY `sent`, `kafka_offset`
