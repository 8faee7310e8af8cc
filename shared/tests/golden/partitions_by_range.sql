SELECT DISTINCT CASE WHEN `value` < 0 THEN -1 WHEN `value` >= 100 THEN 100 ELSE `value` - MOD(`value` - 0, 10) END AS `begin`
FROM (
SELECT `_strait_old`.`n` AS `value`
FROM `project`.`replica`.`by_range` `_strait_old` JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_range` WHERE `flaw_reason` IS NULL) `_strait_new`
ON `_strait_old`.`id` = `_strait_new`.`c0` AND (`_strait_old`.`n` IS NULL OR `_strait_old`.`n` IS NOT NULL)
UNION ALL
SELECT `c4` FROM `project`.`cdc`.`_strait_fold_by_range` WHERE `flaw_reason` IS NULL
)
