MERGE `project`.`replica`.`by_month` `_strait_old`
USING (SELECT * FROM `project`.`cdc`.`_strait_fold_by_month` WHERE `flaw_reason` IS NULL AND TRUE) `_strait_new`
ON `_strait_old`.`id` = `_strait_new`.`c0` AND (`_strait_old`.`day` IS NULL OR `_strait_old`.`day` IS NOT NULL)
WHEN NOT MATCHED AND NOT `_strait_new`.`beyond_log` AND NOT `_strait_new`.`deleted` THEN INSERT (`id`, `day`, `at`, `shown`, `n`, `_strait_position`, `_strait_merged_at`) VALUES (`_strait_new`.`c0`, `_strait_new`.`c1`, `_strait_new`.`c2`, `_strait_new`.`c3`, `_strait_new`.`c4`, `_strait_new`.`position`, CURRENT_TIMESTAMP())
