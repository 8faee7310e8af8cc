DELETE FROM `project`.`replica`.`shop_order`
WHERE COALESCE(`_strait_position`, '') < '1767322000000000'
