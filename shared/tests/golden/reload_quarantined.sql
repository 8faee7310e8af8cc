SELECT COUNT(*)
FROM `project`.`cdc`.`quarantine`
WHERE `source_schema` = 'shop' AND `source_table` = 'order' AND `position` >= '0000-0-00001767322000000000' AND `position` < '0000-1' AND `resolved_at` IS NULL
