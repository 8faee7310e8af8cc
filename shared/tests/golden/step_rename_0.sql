ALTER TABLE `project`.`replica`.`shop_order` RENAME COLUMN `at` TO `select2`
