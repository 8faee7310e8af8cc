ALTER TABLE `project`.`replica`.`shop_order` RENAME COLUMN `select` TO `_strait_replaced_1`, RENAME COLUMN `line` TO `select`
