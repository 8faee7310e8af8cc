MERGE `project`.`replica`.`names_reused` `_strait_old`
USING (SELECT * FROM `project`.`cdc`.`_strait_fold_names_reused` WHERE `flaw_reason` IS NULL AND TRUE) `_strait_new`
ON `_strait_old`.`id` = `_strait_new`.`c0`
WHEN MATCHED AND `_strait_new`.`position` >= COALESCE(`_strait_old`.`_strait_position`, '') AND `_strait_new`.`deleted` THEN DELETE
WHEN MATCHED AND `_strait_new`.`position` >= COALESCE(`_strait_old`.`_strait_position`, '') THEN UPDATE SET `a` = `_strait_new`.`c1`, `b` = `_strait_new`.`c2`, `_strait_position` = `_strait_new`.`position`, `_strait_merged_at` = CURRENT_TIMESTAMP()
WHEN NOT MATCHED AND NOT `_strait_new`.`beyond_log` AND NOT `_strait_new`.`deleted` THEN INSERT (`id`, `a`, `b`, `_strait_position`, `_strait_merged_at`) VALUES (`_strait_new`.`c0`, `_strait_new`.`c1`, `_strait_new`.`c2`, `_strait_new`.`position`, CURRENT_TIMESTAMP())
