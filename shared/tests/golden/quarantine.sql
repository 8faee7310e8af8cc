INSERT INTO `project`.`cdc`.`quarantine` (`source_schema`, `source_table`, `key`, `position`, `column`, `reason`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `quarantined_at`)
SELECT 'shop', 'order', F.`key_text`, F.`position`, F.`flaw_column`, F.`flaw_reason`, F.`kafka_topic`, F.`kafka_partition`, F.`kafka_offset`, CURRENT_TIMESTAMP()
FROM (
SELECT `key_text`, `position`, `flaw_column`, `flaw_reason`, `kafka_topic`, `kafka_partition`, `kafka_offset` FROM `project`.`cdc`.`_strait_fold_hard_null` WHERE `flaw_reason` IS NOT NULL
) F
WHERE NOT EXISTS (SELECT 1 FROM `project`.`cdc`.`quarantine` Q WHERE Q.`source_schema` = 'shop' AND Q.`source_table` = 'order' AND Q.`kafka_topic` = F.`kafka_topic` AND Q.`kafka_partition` = F.`kafka_partition` AND Q.`kafka_offset` = F.`kafka_offset` AND Q.`position` = F.`position` AND Q.`resolved_at` IS NULL)
