SELECT MAX(`_strait_position`) FROM `project`.`replica`.`by_ingested_hour` WHERE (`_PARTITIONTIME` IS NULL OR `_PARTITIONTIME` IS NOT NULL)
