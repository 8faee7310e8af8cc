ALTER TABLE `project`.`replica`.`shop_order` ADD COLUMN IF NOT EXISTS `added` DATE, ADD COLUMN IF NOT EXISTS `more` STRING
