ALTER TABLE `project`.`replica`.`shop_order` ADD COLUMN IF NOT EXISTS `_strait_position` STRING, ADD COLUMN IF NOT EXISTS `_strait_merged_at` TIMESTAMP
