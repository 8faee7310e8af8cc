ALTER TABLE `project`.`replica`.`made_by_hand` ADD COLUMN IF NOT EXISTS `_strait_position` STRING, ADD COLUMN IF NOT EXISTS `_strait_merged_at` TIMESTAMP
