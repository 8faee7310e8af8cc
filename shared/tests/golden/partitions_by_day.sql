SELECT DISTINCT UNIX_DATE(DATE_TRUNC(`value`, DAY)) * 86400000000 AS `begin`
FROM (
SELECT `_strait_old`.`_strait_value` AS `value`
FROM (SELECT `id`, `day` AS `_strait_value` FROM `project`.`replica`.`by_day`) `_strait_old`
JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_day` WHERE `flaw_reason` IS NULL) `_strait_new` ON `_strait_old`.`id` = `_strait_new`.`c0`
UNION ALL
SELECT `c1` FROM `project`.`cdc`.`_strait_fold_by_day` WHERE `flaw_reason` IS NULL
)
