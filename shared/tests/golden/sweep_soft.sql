UPDATE `project`.`replica`.`shop_order`
SET `_strait_deleted` = TRUE, `_strait_position` = '1767322000000000-0-00000000000000000000', `_strait_merged_at` = CURRENT_TIMESTAMP()
WHERE COALESCE(`_strait_position`, '') < '1767322000000000'
