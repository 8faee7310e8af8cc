DELETE FROM `project`.`replica`.`by_month`
WHERE COALESCE(`_strait_position`, '') < '1767322000000000' AND (`day` IS NULL OR `day` IS NOT NULL) AND TRUE
