SELECT `source_schema`, `source_table`, `data`
FROM `project`.`cdc`.`log`
WHERE `operation` = 'create-table' AND `data` IS NOT NULL AND (`source_schema` = 'shop' AND `source_table` = 'order' OR `source_schema` = 'crm' AND `source_table` = 'o\'brien')
QUALIFY ROW_NUMBER() OVER (PARTITION BY `source_schema`, `source_table` ORDER BY `emitted_at` DESC, `kafka_offset` DESC) = 1
