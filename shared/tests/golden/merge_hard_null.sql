MERGE `project`.`replica`.`shop_order` T
USING (SELECT * FROM `project`.`cdc`.`_strait_fold_0123456789abcdef` WHERE `flaw_reason` IS NULL) S
ON T.`id` = S.`c0` AND T.`line` = S.`c12` AND T.`id` BETWEEN 1 AND 99
WHEN MATCHED AND S.`position` > COALESCE(T.`_strait_position`, '') AND S.`deleted` THEN DELETE
WHEN MATCHED AND S.`position` > COALESCE(T.`_strait_position`, '') THEN UPDATE SET `select` = S.`c1`, `a_b_2e7336dc` = S.`c2`, `a_c_14923d06` = S.`c3`, `with_space_b8b8f25a` = S.`c4`, `이름` = S.`c5`, `Case` = S.`c6`, `case_bbfcd416` = S.`c7`, `at` = S.`c8`, `quote_d_a31b87dc` = S.`c9`, `back_slash_1498e0b5` = S.`c10`, `it_s_24ceef1c` = S.`c11`, `_strait_position` = S.`position`, `_strait_merged_at` = CURRENT_TIMESTAMP()
WHEN NOT MATCHED AND NOT S.`deleted` THEN INSERT (`id`, `select`, `a_b_2e7336dc`, `a_c_14923d06`, `with_space_b8b8f25a`, `이름`, `Case`, `case_bbfcd416`, `at`, `quote_d_a31b87dc`, `back_slash_1498e0b5`, `it_s_24ceef1c`, `line`, `_strait_position`, `_strait_merged_at`) VALUES (S.`c0`, S.`c1`, S.`c2`, S.`c3`, S.`c4`, S.`c5`, S.`c6`, S.`c7`, S.`c8`, S.`c9`, S.`c10`, S.`c11`, S.`c12`, S.`position`, CURRENT_TIMESTAMP())
