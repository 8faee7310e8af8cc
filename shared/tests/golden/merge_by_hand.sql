MERGE `project`.`replica`.`shop_order` T
USING (SELECT * FROM `project`.`cdc`.`_strait_fold_0123456789abcdef` WHERE `flaw_reason` IS NULL) S
ON T.`code` = S.`c0` AND T.`code` BETWEEN 'it\'s' AND 'z'
WHEN MATCHED AND S.`position` > COALESCE(T.`_strait_position`, '') AND S.`deleted` THEN DELETE
WHEN MATCHED AND S.`position` > COALESCE(T.`_strait_position`, '') THEN UPDATE SET `doc` = S.`c1`, `t` = S.`c2`, `price` = S.`c3`, `_strait_position` = S.`position`, `_strait_merged_at` = CURRENT_TIMESTAMP()
WHEN NOT MATCHED AND NOT S.`deleted` THEN INSERT (`code`, `doc`, `t`, `price`, `_strait_position`, `_strait_merged_at`) VALUES (S.`c0`, S.`c1`, S.`c2`, S.`c3`, S.`position`, CURRENT_TIMESTAMP())
