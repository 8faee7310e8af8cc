ALTER TABLE `project`.`replica`.`shop_order` ADD COLUMN IF NOT EXISTS `added` DATE
