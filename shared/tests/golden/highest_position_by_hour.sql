SELECT MAX(`_strait_position`) FROM `project`.`replica`.`by_hour` WHERE (`at` IS NULL OR `at` IS NOT NULL)
