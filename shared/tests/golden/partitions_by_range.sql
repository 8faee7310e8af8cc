SELECT DISTINCT CASE WHEN `value` < 0 THEN -1 WHEN `value` >= 100 THEN 100 ELSE `value` - MOD(`value` - 0, 10) END AS `begin`
FROM (
SELECT `_strait_old`.`_strait_value` AS `value`
FROM (SELECT `id`, `n` AS `_strait_value` FROM `project`.`replica`.`by_range` WHERE (`n` IS NULL OR `n` IS NOT NULL)) `_strait_old`
JOIN (SELECT * FROM `project`.`cdc`.`_strait_fold_by_range` WHERE `flaw_reason` IS NULL) `_strait_new` ON `_strait_old`.`id` = `_strait_new`.`c0`
UNION ALL
SELECT `c4` FROM `project`.`cdc`.`_strait_fold_by_range` WHERE `flaw_reason` IS NULL
)
