SELECT DISTINCT UNIX_MICROS(TIMESTAMP(DATETIME_TRUNC(`value`, YEAR))) AS `begin`
FROM (
SELECT `_strait_old`.`_strait_value` AS `value`
FROM (SELECT `id`, `shown` AS `_strait_value` FROM `project`.`replica`.`by_year`) `_strait_old`
JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_year` WHERE `flaw_reason` IS NULL) `_strait_new` ON `_strait_old`.`id` = `_strait_new`.`c0`
UNION ALL
SELECT `c3` FROM `project`.`cdc`.`_strait_fold_by_year` WHERE `flaw_reason` IS NULL
)
