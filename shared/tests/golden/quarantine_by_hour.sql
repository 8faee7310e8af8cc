INSERT INTO `project`.`cdc`.`quarantine` (`source_schema`, `source_table`, `key`, `position`, `column`, `reason`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `quarantined_at`)
SELECT 'shop', 'order', F.`key_text`, F.`position`, F.`flaw_column`, F.`flaw_reason`, F.`kafka_topic`, F.`kafka_partition`, F.`kafka_offset`, CURRENT_TIMESTAMP()
FROM (
SELECT `key_text`, `position`, `flaw_column`, `flaw_reason`, `kafka_topic`, `kafka_partition`, `kafka_offset` FROM `project`.`cdc`.`_strait_fold_by_hour` WHERE `flaw_reason` IS NOT NULL
UNION ALL SELECT `key_text`, `position`, `flaw_column`, 'the change is older than what the log retains, and the row is not in the final table: whether it was deleted later cannot be known. Reload the table in DMS if it is missing', `kafka_topic`, `kafka_partition`, `kafka_offset` FROM `project`.`cdc`.`_strait_fold_by_hour` `_strait_new`
WHERE `beyond_log` AND NOT EXISTS (SELECT 1 FROM `project`.`replica`.`by_hour` `_strait_old` WHERE (`_strait_old`.`at` IS NULL OR `_strait_old`.`at` IS NOT NULL) AND `_strait_old`.`id` = `_strait_new`.`c0`)
) F
WHERE NOT EXISTS (SELECT 1 FROM `project`.`cdc`.`quarantine` Q WHERE Q.`source_schema` = 'shop' AND Q.`source_table` = 'order' AND Q.`kafka_topic` = F.`kafka_topic` AND Q.`kafka_partition` = F.`kafka_partition` AND Q.`kafka_offset` = F.`kafka_offset` AND Q.`position` = F.`position` AND Q.`resolved_at` IS NULL)
