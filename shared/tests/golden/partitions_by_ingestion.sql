SELECT DISTINCT UNIX_MICROS(TIMESTAMP_TRUNC(`value`, DAY)) AS `begin`
FROM (
SELECT `_strait_old`.`_strait_value` AS `value`
FROM (SELECT `id`, `_PARTITIONTIME` AS `_strait_value` FROM `project`.`replica`.`by_ingestion`) `_strait_old`
JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_ingestion` WHERE `flaw_reason` IS NULL) `_strait_new` ON `_strait_old`.`id` = `_strait_new`.`c0`
)
