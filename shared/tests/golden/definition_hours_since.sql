SELECT DISTINCT UNIX_MICROS(TIMESTAMP_TRUNC(`ingested_at`, HOUR)) AS `hour`
FROM `project`.`cdc`.`log`
WHERE `operation` IN ('create-table', 'add-column', 'define-table', 'drop-column', 'rename-column', 'column-type-change', 'change-columns', 'rename-table') AND `ingested_at` >= TIMESTAMP '2026-01-02 03:04:05.678901+00' AND (`source_schema` = 'shop' AND `source_table` = 'order' AND `ingested_at` >= TIMESTAMP '2026-01-02 03:04:05.678902+00' OR `source_schema` = 'crm' AND `source_table` = 'o\'brien' AND `ingested_at` >= TIMESTAMP '2026-01-02 03:04:05.678901+00')
ORDER BY `hour`
