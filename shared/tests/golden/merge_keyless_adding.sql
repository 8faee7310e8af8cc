MERGE `project`.`replica`.`keyless` `_strait_old`
USING (SELECT * FROM `project`.`cdc`.`_strait_fold_keyless` WHERE `flaw_reason` IS NULL AND TRUE) `_strait_new`
ON SUBSTR(`_strait_old`.`_strait_position`, STRPOS(`_strait_old`.`_strait_position`, '-')) = SUBSTR(`_strait_new`.`position`, STRPOS(`_strait_new`.`position`, '-'))
WHEN NOT MATCHED AND NOT `_strait_new`.`beyond_log` AND NOT `_strait_new`.`deleted` THEN INSERT (`at`, `line`, `_strait_position`, `_strait_merged_at`) VALUES (`_strait_new`.`c0`, `_strait_new`.`c1`, `_strait_new`.`position`, CURRENT_TIMESTAMP())
