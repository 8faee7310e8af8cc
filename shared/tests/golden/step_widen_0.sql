ALTER TABLE `project`.`replica`.`shop_order` ALTER COLUMN `with_space_74f1b4f6` SET DATA TYPE FLOAT64
