MERGE `project`.`replica`.`partitioned` `_strait_old`
USING (SELECT * FROM `project`.`cdc`.`_strait_fold_partitioned` WHERE `flaw_reason` IS NULL AND TRUE) `_strait_new`
ON `_strait_old`.`id` = `_strait_new`.`c0` AND `_strait_old`.`day` = `_strait_new`.`c1` AND `_strait_old`.`day` BETWEEN DATE '2026-01-01' AND DATE '2026-01-31' AND (`_strait_old`.`day` IS NULL OR `_strait_old`.`day` IS NOT NULL)
WHEN NOT MATCHED AND NOT `_strait_new`.`beyond_log` AND NOT `_strait_new`.`deleted` THEN INSERT (`id`, `day`, `v`, `_strait_position`, `_strait_merged_at`) VALUES (`_strait_new`.`c0`, `_strait_new`.`c1`, `_strait_new`.`c2`, `_strait_new`.`position`, CURRENT_TIMESTAMP())
