SELECT `source_schema`, `source_table`, `operation`, `data`
FROM `project`.`cdc`.`log`
WHERE `operation` IN ('create-table', 'add-column', 'drop-column', 'rename-column', 'column-type-change', 'change-columns', 'rename-table') AND (STRPOS(`data`, '"table-def"') > 0 OR `operation` = 'rename-table') AND (`source_schema` = 'shop' AND `source_table` = 'order' OR `source_schema` = 'crm' AND `source_table` = 'o\'brien')
ORDER BY `emitted_at`, `kafka_offset`
