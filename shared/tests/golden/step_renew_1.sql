ALTER TABLE `project`.`replica`.`shop_order` ALTER COLUMN `select` SET OPTIONS (description = 'Source column: "it\'s", since "2026-01-02T02:46:40Z"')
