SELECT DISTINCT UNIX_MICROS(TIMESTAMP_TRUNC(`value`, HOUR)) AS `begin`
FROM (
SELECT `_strait_old`.`_strait_value` AS `value`
FROM (SELECT `id`, `at` AS `_strait_value` FROM `project`.`replica`.`by_hour` WHERE (`at` IS NULL OR `at` IS NOT NULL)) `_strait_old`
JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_hour` WHERE `flaw_reason` IS NULL) `_strait_new` ON `_strait_old`.`id` = `_strait_new`.`c0`
UNION ALL
SELECT `c2` FROM `project`.`cdc`.`_strait_fold_by_hour` WHERE `flaw_reason` IS NULL
)
