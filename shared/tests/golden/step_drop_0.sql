ALTER TABLE `project`.`replica`.`shop_order` DROP COLUMN IF EXISTS `at`
