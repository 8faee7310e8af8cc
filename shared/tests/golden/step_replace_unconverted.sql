SELECT COUNTIF(`select` IS NOT NULL AND `line` IS NULL) FROM `project`.`replica`.`shop_order`
