MERGE `project`.`replica`.`made_by_hand` `_strait_old`
USING (SELECT * FROM `project`.`cdc`.`_strait_fold_by_hand` WHERE `flaw_reason` IS NULL AND TRUE) `_strait_new`
ON `_strait_old`.`code` = `_strait_new`.`c0`
WHEN MATCHED AND `_strait_new`.`position` > COALESCE(`_strait_old`.`_strait_position`, '') AND `_strait_new`.`deleted` THEN DELETE
WHEN MATCHED AND `_strait_new`.`position` > COALESCE(`_strait_old`.`_strait_position`, '') THEN UPDATE SET `doc` = `_strait_new`.`c1`, `t` = `_strait_new`.`c2`, `price` = `_strait_new`.`c3`, `short` = `_strait_new`.`c4`, `bytes` = `_strait_new`.`c5`, `at` = `_strait_new`.`c6`, `_strait_position` = `_strait_new`.`position`, `_strait_merged_at` = CURRENT_TIMESTAMP()
WHEN NOT MATCHED AND NOT `_strait_new`.`beyond_log` AND NOT `_strait_new`.`deleted` THEN INSERT (`code`, `doc`, `t`, `price`, `short`, `bytes`, `at`, `_strait_position`, `_strait_merged_at`) VALUES (`_strait_new`.`c0`, `_strait_new`.`c1`, `_strait_new`.`c2`, `_strait_new`.`c3`, `_strait_new`.`c4`, `_strait_new`.`c5`, `_strait_new`.`c6`, `_strait_new`.`position`, CURRENT_TIMESTAMP())
