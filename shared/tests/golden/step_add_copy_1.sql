ALTER TABLE `project`.`replica`.`shop_order` ALTER COLUMN `_strait_copy_1` SET OPTIONS (description = 'Source column: "it\'s", formerly ["a.b"]')
