ALTER TABLE `project`.`replica`.`shop_order` ADD COLUMN IF NOT EXISTS `_strait_copy_1` BIGNUMERIC OPTIONS (description = 'Source column: "it\'s", formerly ["a.b"]')
