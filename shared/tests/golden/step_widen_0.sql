ALTER TABLE `project`.`replica`.`shop_order` ALTER COLUMN `line` SET DATA TYPE FLOAT64
