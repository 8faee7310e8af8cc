SELECT `name`, MAX(IF(`operation` = 'delete', NULL, `place`)) AS `place`, COUNTIF(`operation` <> 'delete') AS `present`, COUNTIF(`operation` IN ('load', 'insert')) AS `in_rows`
FROM (SELECT `operation`, `data` FROM `project`.`cdc`.`log` AS `_strait_log`
WHERE `source_schema` = 'shop' AND `source_table` = 'order' AND `operation` IN ('load', 'insert', 'update', 'delete') AND COALESCE(`error`, 'the record has no schema; its values are taken for what they say (STRAIT_DEBEZIUM_WITHOUT_SCHEMA)') = 'the record has no schema; its values are taken for what they say (STRAIT_DEBEZIUM_WITHOUT_SCHEMA)'
QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `_strait_log`.`kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1), UNNEST(REGEXP_EXTRACT_ALL(`data`, r'"((?:[^"\\]|\\.)*)"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[^"])')) AS `name` WITH OFFSET AS `place`
GROUP BY `name` ORDER BY `place`, `name`
