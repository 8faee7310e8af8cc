SELECT `source_schema`, `source_table`, `data`
FROM `project`.`cdc`.`log`
WHERE `operation` IN ('create-table', 'add-column') AND STRPOS(`data`, '"table-def"') > 0 AND (`source_schema` = 'shop' AND `source_table` = 'order' OR `source_schema` = 'crm' AND `source_table` = 'o\'brien')
QUALIFY ROW_NUMBER() OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `emitted_at` DESC, `kafka_offset` DESC) = 1
