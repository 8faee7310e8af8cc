SELECT `operation`, COUNT(*) AS `records`, COUNTIF(NOT ((`error` IS NULL OR `error` IN ('the record has no schema; its values are taken for what they say (STRAIT_DEBEZIUM_WITHOUT_SCHEMA)', 'the record has no schema; its values are taken for what they say (STRAIT_DEBEZIUM_WITHOUT_SCHEMA), and values that did not change were not sent (unavailable.value.placeholder)')))) AS `unreadable`, COUNTIF(STARTS_WITH(`position`, '0000-2-p')) AS `postgresql`, COUNTIF(STARTS_WITH(`position`, '0000-2-m')) AS `mysql`
FROM (SELECT `operation`, `position`, `error` FROM `project`.`cdc`.`log` AS `_strait_log`
WHERE `source_schema` = 'shop' AND `source_table` = 'order' AND TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `_strait_log`.`kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1)
GROUP BY `operation`
