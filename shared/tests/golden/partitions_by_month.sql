SELECT DISTINCT UNIX_DATE(DATE_TRUNC(`value`, MONTH)) * 86400000000 AS `begin`
FROM (
SELECT `_strait_old`.`day` AS `value`
FROM `project`.`replica`.`by_month` `_strait_old` JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_month` WHERE `flaw_reason` IS NULL) `_strait_new`
ON `_strait_old`.`id` = `_strait_new`.`c0` AND (`_strait_old`.`day` IS NULL OR `_strait_old`.`day` IS NOT NULL)
UNION ALL
SELECT `c1` FROM `project`.`cdc`.`_strait_fold_by_month` WHERE `flaw_reason` IS NULL
)
