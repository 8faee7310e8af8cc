ALTER TABLE `project`.`replica`.`shop_order` ALTER COLUMN `at` SET OPTIONS (description = 'Source column: "it\'s", formerly ["a.b"]')
