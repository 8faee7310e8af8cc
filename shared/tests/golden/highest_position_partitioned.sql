SELECT MAX(`_strait_position`) FROM `project`.`replica`.`partitioned` WHERE (`day` IS NULL OR `day` IS NOT NULL)
