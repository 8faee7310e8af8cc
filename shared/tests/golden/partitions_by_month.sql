SELECT DISTINCT UNIX_DATE(DATE_TRUNC(`value`, MONTH)) * 86400000000 AS `begin`
FROM (
SELECT `_strait_old`.`_strait_value` AS `value`
FROM (SELECT `id`, `day` AS `_strait_value` FROM `project`.`replica`.`by_month` WHERE (`day` IS NULL OR `day` IS NOT NULL)) `_strait_old`
JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_month` WHERE `flaw_reason` IS NULL) `_strait_new` ON `_strait_old`.`id` = `_strait_new`.`c0`
UNION ALL
SELECT `c1` FROM `project`.`cdc`.`_strait_fold_by_month` WHERE `flaw_reason` IS NULL
)
