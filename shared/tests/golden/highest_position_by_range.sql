SELECT MAX(`_strait_position`) FROM `project`.`replica`.`by_range` WHERE (`n` IS NULL OR `n` IS NOT NULL)
