SELECT DISTINCT UNIX_MICROS(TIMESTAMP_TRUNC(`value`, HOUR)) AS `begin`
FROM (
SELECT `_strait_old`.`at` AS `value`
FROM `project`.`replica`.`by_hour` `_strait_old` JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_hour` WHERE `flaw_reason` IS NULL) `_strait_new`
ON `_strait_old`.`id` = `_strait_new`.`c0` AND (`_strait_old`.`at` IS NULL OR `_strait_old`.`at` IS NOT NULL)
UNION ALL
SELECT `c2` FROM `project`.`cdc`.`_strait_fold_by_hour` WHERE `flaw_reason` IS NULL
)
