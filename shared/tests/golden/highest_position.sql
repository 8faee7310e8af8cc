SELECT MAX(`_strait_position`) FROM `project`.`replica`.`shop_order`
