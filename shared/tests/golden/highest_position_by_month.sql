SELECT MAX(`_strait_position`) FROM `project`.`replica`.`by_month` WHERE (`day` IS NULL OR `day` IS NOT NULL)
